//! Paths: a listener has one list of them. A row routes requests, says which methods
//! its path takes, and stands in the listener's document under the same words
//! (`openapi` checks that), so that no call is without its description.

use hyper::Method;

/// Who may GET may HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Methods {
    Get,
    Post,
    GetAndPost,
}

impl Methods {
    pub fn have(self, method: &Method) -> bool {
        let get = method == Method::GET || method == Method::HEAD;
        let post = method == Method::POST;
        match self {
            Self::Get => get,
            Self::Post => post,
            Self::GetAndPost => get || post,
        }
    }

    /// As Allow says it.
    pub fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            Self::GetAndPost => "GET, HEAD, POST",
        }
    }

    /// As [`Self::allow`], of a listener that answers OPTIONS.
    pub fn allow_with_options(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD, OPTIONS",
            Self::Post => "POST, OPTIONS",
            Self::GetAndPost => "GET, HEAD, POST, OPTIONS",
        }
    }
}

/// What a segment of a row stands for: a word for itself, a name for any text.
#[cfg(test)]
macro_rules! segment {
    ($word:literal) => {
        $word
    };
    ($name:ident) => {
        concat!("{", stringify!($name), "}")
    };
}

macro_rules! text {
    ($name:ident, $life:lifetime) => {
        &$life str
    };
}

/// `Place(name) ["segment", name] Methods`, one row a path. Where two rows fit, the
/// first one counts.
macro_rules! paths {
    (
        $(#[$doc:meta])*
        enum $list:ident {
            $($(#[$note:meta])* $place:ident $(($($name:ident),+))? [$($segment:tt),+] $methods:ident,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum $list<'a> {
            $($(#[$note])* $place $(($($crate::http::paths::text!($name, 'a)),+))?,)+
        }

        impl<'a> $list<'a> {
            fn find(segments: &[&'a str]) -> Option<Self> {
                match *segments {
                    $([$($segment),+] => Some(Self::$place $(($($name),+))?),)+
                    _ => None,
                }
            }

            fn methods(self) -> $crate::http::paths::Methods {
                match self {
                    $(Self::$place { .. } => $crate::http::paths::Methods::$methods,)+
                }
            }
        }

        /// The rows, as a document writes them.
        #[cfg(test)]
        pub(super) const PATHS: &[(&str, $crate::http::paths::Methods)] = &[
            $((
                concat!($("/", $crate::http::paths::segment!($segment)),+),
                $crate::http::paths::Methods::$methods,
            ),)+
        ];
    };
}

#[cfg(test)]
pub(super) use segment;
pub(super) use {paths, text};

#[cfg(test)]
mod tests {
    use super::Methods;

    paths! {
        enum Place {
            Root [""] Get,
            New ["things", "new"] Post,
            Thing(id) ["things", id] GetAndPost,
            Part(id, part) ["things", id, "parts", part] Get,
        }
    }

    #[test]
    fn the_first_row_that_fits_is_the_place_and_rows_are_written_as_documents_do() {
        let find = |path: &'static str| Place::find(&path.split('/').skip(1).collect::<Vec<_>>());
        assert_eq!(find("/"), Some(Place::Root));
        assert_eq!(find("/things/new"), Some(Place::New));
        assert_eq!(find("/things/7"), Some(Place::Thing("7")));
        assert_eq!(find("/things/7/parts/x"), Some(Place::Part("7", "x")));
        assert_eq!(find("/things/7/parts"), None);
        assert_eq!(Place::New.methods(), Methods::Post);
        assert_eq!(
            PATHS,
            [
                ("/", Methods::Get),
                ("/things/new", Methods::Post),
                ("/things/{id}", Methods::GetAndPost),
                ("/things/{id}/parts/{part}", Methods::Get),
            ]
        );
    }
}
