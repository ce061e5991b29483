//! The names of the metrics, in one place.
