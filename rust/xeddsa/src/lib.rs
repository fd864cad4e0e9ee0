//! xeddsa
