//! System call filters: `/linux/seccomp`.
