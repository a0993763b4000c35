//! Tables for the configuration file.
