//! Who may use a route.

use http::Method;

use crate::permission::Required;

/// Who may use a route, and where else it takes a token from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Anybody: no token is asked for, and one that is presented is only removed.
    pub public: bool,
    /// A query parameter that may hold the token.
    pub query_parameter: Option<Box<str>>,
    pub required: RequiredPermissions,
}

/// The permission that each method needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredPermissions {
    /// For every method without an entry of its own. When this is `None`, such
    /// a method needs nothing where no method has an entry, and is for nobody
    /// where one has: what was forgotten is not given away.
    pub otherwise: Option<Required>,
    /// Methods are told apart in any case: there are servers to which `delete`
    /// is `DELETE`.
    pub by_method: Vec<(Method, Required)>,
}

/// What a request takes beside a valid key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed<'a> {
    Nothing,
    Permission(&'a Required),
    /// No key will do.
    Impossible,
}

impl RequiredPermissions {
    /// The same permission for every method.
    pub const fn always(required: Required) -> Self {
        Self {
            otherwise: Some(required),
            by_method: Vec::new(),
        }
    }

    /// What `method` needs. A `HEAD` needs what the `GET` of the same route does.
    pub fn of(&self, method: &Method) -> Needed<'_> {
        let method = method.as_str();
        let is_head = method.eq_ignore_ascii_case("HEAD");
        self.exact(method)
            .or_else(|| is_head.then(|| self.exact("GET"))?)
            .or(self.otherwise.as_ref())
            .map_or(self.without_entry(), Needed::Permission)
    }

    fn exact(&self, method: &str) -> Option<&Required> {
        self.by_method
            .iter()
            .find_map(|(of, required)| of.as_str().eq_ignore_ascii_case(method).then_some(required))
    }

    const fn without_entry(&self) -> Needed<'static> {
        if self.by_method.is_empty() {
            Needed::Nothing
        } else {
            Needed::Impossible
        }
    }
}
