//! Every custom resource type that Portolan reads or writes, in one place.
