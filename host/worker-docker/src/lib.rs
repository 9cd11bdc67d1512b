//! WorkerBackend that runs the worker in a Docker container.
