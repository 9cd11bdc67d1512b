//! Lists new dependencies and holds their licences against rules.
