//! Tables for the reader.
