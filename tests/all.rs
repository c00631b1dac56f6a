//! One integration binary: real clusters, real files.
