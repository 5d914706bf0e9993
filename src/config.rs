//! How Problems, Configs and their words are declared. A Config prints itself and is parsed back:
//! `algorithm=registers wg_size=8 lanes=8`, every field once, in order.

use std::fmt;

/// A value of a Config.
pub(crate) trait Field: Sized {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! plain_field {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

plain_field!(u32, bool);

/// `16x128x4`.
impl<const N: usize> Field for [u32; N] {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().enumerate().try_for_each(|(i, n)| write!(f, "{}{n}", if i == 0 { "" } else { "x" }))
    }

    fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<u32>> = text.split('x').map(|n| n.parse().ok()).collect();
        numbers?.try_into().ok()
    }
}

/// The values of a Config's text by their keys, which must be `keys`, in this order.
pub(crate) fn values<'a, const N: usize>(text: &'a str, keys: [&str; N]) -> Result<[&'a str; N], String> {
    let mut words = text.split_whitespace();
    let mut found = [""; N];
    for (value, key) in found.iter_mut().zip(keys) {
        let word = words.next().ok_or_else(|| format!("`{key}=` is missing in the config `{text}`"))?;
        *value = word
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix('='))
            .ok_or_else(|| format!("`{word}` stands where the config needs `{key}=`"))?;
    }
    match words.next() {
        Some(word) => Err(format!("`{word}` is too much in the config `{text}`")),
        None => Ok(found),
    }
}

/// Declares a Config: a struct of choices that prints itself and parses back.
macro_rules! config {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }

        /// `key=value` of every field, in order.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut space = "";
                $(
                    write!(f, "{space}{}=", stringify!($field))?;
                    $crate::config::Field::write(&self.$field, f)?;
                    space = " ";
                )*
                let _ = space;
                Ok(())
            }
        }

        /// What `Display` has written.
        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> std::result::Result<Self, String> {
                let [$($field),*] = $crate::config::values(text, [$(stringify!($field)),*])?;
                Ok($name { $($field: $crate::config::Field::parse($field).ok_or_else(|| {
                    format!("`{}={}` is not a value of the config", stringify!($field), $field)
                })?,)* })
            }
        }
    };
}

/// Declares a struct whose fields have their defaults beside them.
macro_rules! defaults {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(<$life:lifetime>)? { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty = $value:expr,)* }
    ) => {
        $(#[$meta])*
        pub struct $name $(<$life>)? { $($(#[$field_meta])* pub $field: $ty,)* }

        impl $(<$life>)? Default for $name $(<$life>)? {
            fn default() -> Self {
                $name { $($field: $value,)* }
            }
        }
    };
}

/// Declares an enum whose variants have names in text.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// As texts call it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl $crate::config::Field for $name {
            fn write(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }

            fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == text)
            }
        }
    };
}

pub(crate) use {config, defaults, words};

#[cfg(test)]
mod tests {
    words! {
        /// A word.
        pub enum Way {
            /// One.
            Short = "short",
            /// Two.
            TheLong = "the_long",
        }
    }

    config! {
        /// Choices.
        pub struct Config {
            /// A word.
            pub way: Way,
            /// Numbers.
            pub tile: [u32; 3],
            /// A flag.
            pub native_f16: bool,
        }
    }

    #[test]
    fn what_is_printed_parses_back() {
        let config = Config { way: Way::TheLong, tile: [16, 128, 4], native_f16: true };
        assert_eq!(config.to_string(), "way=the_long tile=16x128x4 native_f16=true");
        assert_eq!(config.to_string().parse(), Ok(config));
    }

    #[test]
    fn what_is_not_a_config_is_refused() {
        let error = |text: &str| text.parse::<Config>().unwrap_err();
        assert_eq!(error("way=short tile=1x2x3"), "`native_f16=` is missing in the config `way=short tile=1x2x3`");
        assert_eq!(error("tile=1x2x3"), "`tile=1x2x3` stands where the config needs `way=`");
        assert_eq!(error("way=wide tile=1x2x3 native_f16=true"), "`way=wide` is not a value of the config");
        assert_eq!(error("way=short tile=1x2 native_f16=true"), "`tile=1x2` is not a value of the config");
        assert!(error("way=short tile=1x2x3 native_f16=true more=1").starts_with("`more=1` is too much"));
    }
}
