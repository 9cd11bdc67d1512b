//! Holds a change against rules about paths, size and kinds of files.
