//! The application around the data: services and switches; each action has its inverse.
