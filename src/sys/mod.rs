//! Every effect on the host: descriptors, durable writes.

pub mod dir;
