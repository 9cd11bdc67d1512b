//! A stand-in for the Lambda service.
