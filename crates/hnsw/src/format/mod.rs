//! The bytes: [`layout`] is the map of them, chosen once an index; [`record`], [`edges`], [`upper`] and
//! [`overflow`] read and change one; an [`id`] says where one lies. Nothing here walks.

pub mod edges;
pub mod id;
pub mod layout;
pub mod overflow;
pub mod record;
pub mod upper;
