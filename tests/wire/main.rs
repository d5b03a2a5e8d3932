//! Kafka's wire format as a whole: the guard against the crate's decoder, for every API and version
//! that we serve.

mod answers;
mod content;
mod corpus;
mod goldens;
mod guard;
mod requests;
mod rewrites;
