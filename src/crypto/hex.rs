//! Bytes as lower-case hexadecimal, for `#[serde(with = "hex")]`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(
    bytes: impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base16ct::lower::encode_string(bytes.as_ref()))
}

pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<Vec<u8>>,
{
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    let bytes = base16ct::lower::decode_vec(&*text)
        .map_err(|_| D::Error::custom("expected lower-case hexadecimal digits"))?;
    T::try_from(bytes).map_err(|_| D::Error::custom("the wrong number of bytes"))
}
