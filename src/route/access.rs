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
    /// For every method without an entry of its own.
    pub otherwise: Option<Required>,
    pub by_method: Vec<(Method, Required)>,
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
    pub fn of(&self, method: &Method) -> Option<&Required> {
        self.exact(method)
            .or_else(|| (method == Method::HEAD).then(|| self.exact(&Method::GET))?)
            .or(self.otherwise.as_ref())
    }

    fn exact(&self, method: &Method) -> Option<&Required> {
        self.by_method
            .iter()
            .find_map(|(of, required)| (of == method).then_some(required))
    }
}
