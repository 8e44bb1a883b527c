//! seccomp(2): installs a filter.
