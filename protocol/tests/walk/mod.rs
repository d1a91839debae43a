//! A deserializer that makes values up: it walks any type of the protocol as a codec would and answers each question
//! from a source of bytes. One walk gives a value for round trips; walks over every variant give the list of messages.
//! Never here: what the messages mean, or a second description of them that could grow stale.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// Texts that are also JSON documents, because a wrapped JSON value travels as text in frames.
const TEXTS: [&str; 8] = [
    "null",
    "7",
    "\"\"",
    "\"support-desk@2\"",
    "\"行 \\u0000 \\n 🦀\"",
    "{\"a\":[1,-2.5,{\"b\":null}]}",
    "[ true,\n\tfalse ]",
    "\"Zażółć\"",
];
/// Below this depth options are empty, lists too, and enums take their first variant.
const DEPTH_MAX: usize = 24;

/// Fields and their types, or variants and theirs, by the name of the type.
pub(crate) type Shapes = BTreeMap<String, Vec<(String, String)>>;

/// The walker. `shapes` grows when it is asked to visit everything.
pub(crate) struct Walk<'s> {
    source: &'s [u8],
    depth: usize,
    /// Visits to each enum so far; `Some` makes the walk take variants in turn and fill every option and list.
    turns: Option<BTreeMap<&'static str, usize>>,
    /// What was met.
    pub(crate) shapes: Shapes,
    last: String,
}

/// The walker made something that the type refuses.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Refused {}
impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Refused(message.to_string())
    }
}

/// A value made of these bytes; zeros follow when they end.
pub(crate) fn value<T: DeserializeOwned>(source: &[u8]) -> T {
    let mut walk = Walk { source, depth: 0, turns: None, shapes: Shapes::new(), last: String::new() };
    T::deserialize(&mut walk).expect("the walker makes only what every type takes")
}

/// Values of `T` that together hold every variant of everything inside it, and the shapes met on the way.
pub(crate) fn every<T: DeserializeOwned>() -> (Vec<T>, Shapes) {
    let mut walk =
        Walk { source: &[], depth: 0, turns: Some(BTreeMap::new()), shapes: Shapes::new(), last: String::new() };
    let mut values = Vec::new();
    // A walk that meets nothing new for so many turns of the widest enum has met everything.
    let (mut quiet, mut known) = (0, 0);
    while quiet < 200 {
        values.push(T::deserialize(&mut walk).expect("the walker makes only what every type takes"));
        let now = walk.shapes.values().map(Vec::len).sum();
        quiet = if now == known { quiet + 1 } else { 0 };
        known = now;
    }
    values.truncate(values.len() - quiet);
    (values, walk.shapes)
}

impl Walk<'_> {
    fn byte(&mut self) -> u8 {
        match self.source.split_first() {
            Some((byte, rest)) => {
                self.source = rest;
                *byte
            }
            None => 0,
        }
    }

    fn number(&mut self) -> u128 {
        // Small numbers and the borders of every width are the interesting ones.
        match self.byte() % 8 {
            0..=2 => u128::from(self.byte()),
            3 => u128::MAX,
            4 => 1 << 63,
            5 => 250 + u128::from(self.byte()),
            _ => (0..16).fold(0, |number, _| number << 8 | u128::from(self.byte())),
        }
    }

    fn float(&mut self) -> f64 {
        let float = f64::from_bits(self.number() as u64);
        if float.is_finite() { float } else { -0.1 }
    }

    fn everything(&self) -> bool {
        self.turns.is_some() && self.depth < DEPTH_MAX
    }

    fn some(&mut self) -> bool {
        self.everything() || (self.depth < DEPTH_MAX && self.byte() % 2 == 1)
    }

    fn count(&mut self) -> usize {
        if self.everything() {
            1
        } else if self.depth < DEPTH_MAX {
            usize::from(self.byte() % 3)
        } else {
            0
        }
    }

    fn note(&mut self, of: &str, at: usize, name: &str) {
        let entry = self.shapes.entry(of.to_owned()).or_default();
        if let Some((_, kind)) = entry.iter_mut().find(|(known, _)| known == name) {
            if kind.len() < self.last.len() {
                kind.clone_from(&self.last);
            }
        } else {
            let at = at.min(entry.len());
            entry.insert(at, (name.to_owned(), self.last.clone()));
        }
    }
}

macro_rules! plain {
    ($($method:ident $visit:ident $name:literal |$walk:ident| $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            let $walk = &mut *self;
            let value = $value;
            self.last = $name.into();
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Walk<'_> {
    type Error = Refused;

    fn is_human_readable(&self) -> bool {
        false
    }

    plain! {
        deserialize_bool visit_bool "bool" |w| w.byte() % 2 == 1;
        deserialize_u8 visit_u8 "u8" |w| w.byte();
        deserialize_u16 visit_u16 "u16" |w| w.number() as u16;
        deserialize_u32 visit_u32 "u32" |w| w.number() as u32;
        deserialize_u64 visit_u64 "u64" |w| w.number() as u64;
        deserialize_i8 visit_i8 "i8" |w| w.number() as i8;
        deserialize_i16 visit_i16 "i16" |w| w.number() as i16;
        deserialize_i32 visit_i32 "i32" |w| w.number() as i32;
        deserialize_i64 visit_i64 "i64" |w| w.number() as i64;
        deserialize_i128 visit_i128 "amount" |w| w.number() as i128;
        deserialize_f32 visit_f32 "f32" |w| w.number() as u16 as f32 / 7.0;
        deserialize_f64 visit_f64 "f64" |w| w.float();
        deserialize_str visit_borrowed_str "text" |w| TEXTS[usize::from(w.byte()) % TEXTS.len()];
        deserialize_string visit_borrowed_str "text" |w| TEXTS[usize::from(w.byte()) % TEXTS.len()];
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if !self.some() {
            self.last = "?".into();
            return visitor.visit_none();
        }
        let value = visitor.visit_some(&mut *self)?;
        self.last.push('?');
        Ok(value)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.last = "()".into();
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let left = self.count();
        self.last.clear();
        let value = visitor.visit_seq(Items { walk: self, left, kinds: Vec::new() })?;
        self.last = format!("[{}]", self.last);
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        let value = visitor.visit_seq(Items { walk: self, left: length, kinds: Vec::new() })?;
        self.last = match length {
            16 => "id".into(),
            32 => "sha256".into(),
            _ => format!("({length} × {})", self.last),
        };
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let left = self.count();
        self.last.clear();
        let value = visitor.visit_map(Items { walk: self, left, kinds: Vec::new() })?;
        self.last = format!("{{text: {}}}", self.last);
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.depth += 1;
        let value = visitor.visit_seq(Fields { walk: self, of: name, fields, next: 0 })?;
        self.depth -= 1;
        self.last = name.into();
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let index = match &mut self.turns {
            _ if self.depth >= DEPTH_MAX => 0,
            Some(turns) => {
                let turn = turns.entry(name).or_default();
                *turn += 1;
                (*turn - 1) % variants.len()
            }
            None => usize::from(self.byte()) % variants.len(),
        };
        self.depth += 1;
        let value = visitor.visit_enum(Variant { walk: self, of: name, variants, index })?;
        self.depth -= 1;
        self.last = name.into();
        Ok(value)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        Err(Refused("a type that describes itself cannot travel in frames".into()))
    }

    forward_to_deserialize_any! { char u128 bytes byte_buf unit_struct tuple_struct identifier ignored_any }
}

struct Items<'w, 's> {
    walk: &'w mut Walk<'s>,
    left: usize,
    kinds: Vec<String>,
}
impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Refused;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let value = seed.deserialize(&mut *self.walk)?;
        self.kinds.push(self.walk.last.clone());
        Ok(Some(value))
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}
impl<'de> MapAccess<'de> for Items<'_, '_> {
    type Error = Refused;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        self.next_element_seed(seed)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        seed.deserialize(&mut *self.walk)
    }
}

struct Fields<'w, 's> {
    walk: &'w mut Walk<'s>,
    of: &'static str,
    fields: &'static [&'static str],
    next: usize,
}
impl<'de> SeqAccess<'de> for Fields<'_, '_> {
    type Error = Refused;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some(field) = self.fields.get(self.next) else { return Ok(None) };
        let value = seed.deserialize(&mut *self.walk)?;
        self.walk.note(self.of, self.next, field);
        self.next += 1;
        Ok(Some(value))
    }
}

struct Variant<'w, 's> {
    walk: &'w mut Walk<'s>,
    of: &'static str,
    variants: &'static [&'static str],
    index: usize,
}
impl<'de, 'w, 's> EnumAccess<'de> for Variant<'w, 's> {
    type Error = Refused;
    type Variant = Variant<'w, 's>;
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), Refused> {
        let index = u32::try_from(self.index).expect("no enum is that wide");
        let value = seed.deserialize(serde::de::value::U32Deserializer::<Refused>::new(index))?;
        Ok((value, self))
    }
}
impl Variant<'_, '_> {
    fn met(self, kind: String) {
        self.walk.last = kind;
        self.walk.note(self.of, self.index, self.variants[self.index]);
    }
}
impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = Refused;
    fn unit_variant(self) -> Result<(), Refused> {
        self.met(String::new());
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refused> {
        let value = seed.deserialize(&mut *self.walk)?;
        let kind = self.walk.last.clone();
        self.met(kind);
        Ok(value)
    }
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        let mut items = Items { walk: &mut *self.walk, left: length, kinds: Vec::new() };
        let value = visitor.visit_seq(&mut items)?;
        let kinds = items.kinds.join(", ");
        self.met(format!("[{kinds}]"));
        Ok(value)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Refused> {
        let of = "fields of a variant";
        self.walk.shapes.remove(of);
        let value = visitor.visit_seq(Fields { walk: &mut *self.walk, of, fields, next: 0 })?;
        let met = self.walk.shapes.remove(of).unwrap_or_default();
        let met: Vec<_> = met.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
        self.met(format!("{{{}}}", met.join(", ")));
        Ok(value)
    }
}
