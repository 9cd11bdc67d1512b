//! Finds credentials in what an agent wrote.
