//! Shared by the tests beside this file.
