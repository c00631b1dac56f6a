//! 64-bit numbers as decimal strings in our JSON: readers that keep numbers as doubles lose digits above 2^53.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For `#[serde(with = "decimal")]` on a `u64`.
pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() { serializer.collect_str(value) } else { serializer.serialize_u64(*value) }
}

/// The inverse of [`serialize`].
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    if !deserializer.is_human_readable() {
        return u64::deserialize(deserializer);
    }
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// The same for an `Option<u64>`.
pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|v| v.to_string()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| t.parse()).transpose().map_err(serde::de::Error::custom)
    }
}
