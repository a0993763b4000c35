//! The control plane: registers members, watches their health, steers new sessions.
