//! Fuzz targets of the decoders of `chimera-protocol`.

pub mod targets;
