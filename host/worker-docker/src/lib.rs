//! [`WorkerBackend`](pangolin_ports::worker_backend::WorkerBackend) that runs each worker in its own Docker
//! container, through the engine's API on a unix socket.
//!
//! One dispatch is one container, `pangolin-<dispatch id>`. The worker binary is mounted into it, so any image will
//! do. It sees four mounts (`/pangolin/worker` and `/pangolin/envelope` read-only, `/workspace`,
//! `/pangolin/result`), a small `/tmp`, and what its image brings; no capability, no network (unless asked for), no
//! writable root, no root user.
//!
//! The engine and the labels of the container are the whole state: exit codes, deadlines and the isolation in force
//! are found there again after a crash of the host. Only why a worker was stopped cannot be kept in a container, so
//! that is noted in a file of the envelope directory, which the container cannot write.
//!
//! Exactly once holds for all hosts that share the dispatch's directories: a container is started only under a lock
//! on the envelope directory and only if the engine says that it never ran. One window is left: a host that dies
//! while its start request is being processed, with a worker that ends before the next host has looked and asked.
//!
//! Deliberately not here: a sandbox inside the container, building images, pulling unless asked to, engines on
//! other machines (bind mounts would not be theirs), Windows containers.

mod backend;
mod container;
mod directories;
mod engine;
mod guard;
mod output;
mod stop;

pub use backend::{DockerBackend, DockerOptions};
