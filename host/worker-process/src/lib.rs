//! WorkerBackend that runs the worker as a host process.
