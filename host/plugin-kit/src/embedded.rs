//! What a new project is made of.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
