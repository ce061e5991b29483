//! Lists of permissions that keys share.
//!
//! A million keys hold a few lists. Each is in memory once, for as long as a
//! key holds it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foldhash::fast::FixedState;

use super::Permission;

/// What a key holds, in the order of its record. A clone, and another that was
/// made of the same permissions, are the same piece of memory.
#[derive(Clone)]
pub struct Permissions(Arc<List>);

struct List {
    each: Box<[Permission]>,
    text: Box<str>,
}

impl Permissions {
    /// All of them, joined by commas.
    pub fn as_text(&self) -> &str {
        &self.0.text
    }
}

impl From<Vec<Permission>> for Permissions {
    /// Takes a lock for a moment: not for the path of a request.
    fn from(each: Vec<Permission>) -> Self {
        static LISTS: Mutex<Lists> = Mutex::new(Lists::new());
        LISTS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .share(each)
    }
}

impl Deref for Permissions {
    type Target = [Permission];

    fn deref(&self) -> &[Permission] {
        &self.0.each
    }
}

impl PartialEq for Permissions {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.each == other.0.each
    }
}

impl Eq for Permissions {}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

/// So many lists are kept in mind before the first look for those that are gone.
const FEW: usize = 64;

/// The lists that are held, by their text: a permission has no comma.
struct Lists {
    by_text: HashMap<Box<str>, Weak<List>, FixedState>,
    /// With so many it is time to look for those that are gone.
    many: usize,
}

impl Lists {
    const fn new() -> Self {
        Self {
            by_text: HashMap::with_hasher(FixedState::with_seed(0)),
            many: FEW,
        }
    }

    fn share(&mut self, each: Vec<Permission>) -> Permissions {
        let texts: Vec<_> = each.iter().map(Permission::as_str).collect();
        let text = texts.join(",");
        if let Some(list) = self.by_text.get(&*text).and_then(Weak::upgrade) {
            return Permissions(list);
        }
        if self.by_text.len() >= self.many {
            self.by_text.retain(|_, list| list.strong_count() > 0);
            self.many = FEW.max(self.by_text.len() * 2);
            self.by_text.shrink_to(self.many);
        }
        let text = text.into_boxed_str();
        let list = Arc::new(List {
            each: each.into(),
            text: text.clone(),
        });
        self.by_text.insert(text, Arc::downgrade(&list));
        Permissions(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<Permission> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_same_permissions_are_one_list() {
        let mut lists = Lists::new();
        let first = lists.share(list(&["orders:read", "stock:*"]));
        let again = lists.share(list(&["orders:read", "stock:*"]));
        assert!(Arc::ptr_eq(&first.0, &again.0));
        assert_eq!(*first, *list(&["orders:read", "stock:*"]));
        assert_eq!(first.as_text(), "orders:read,stock:*");
    }

    #[test]
    fn others_and_another_order_are_another_list() {
        let mut lists = Lists::new();
        let held = lists.share(list(&["a", "b"]));
        for other in [&["b", "a"][..], &["a"], &["a", "b", "c"], &["a:b"], &[]] {
            assert_ne!(lists.share(list(other)), held, "{other:?}");
        }
        assert_eq!(lists.share(Vec::new()).as_text(), "");
    }

    #[test]
    fn a_list_that_no_key_holds_is_gone() {
        let mut lists = Lists::new();
        let held = lists.share(list(&["held"]));
        for number in 0..10_000 {
            let passing = lists.share(list(&[&format!("passing:{number}")]));
            let weak = Arc::downgrade(&passing.0);
            drop(passing);
            assert!(weak.upgrade().is_none());
            assert!(lists.by_text.len() <= FEW);
        }
        assert!(Arc::ptr_eq(&lists.share(list(&["held"])).0, &held.0));
    }

    #[test]
    fn every_key_s_own_list_is_kept_while_it_is_held() {
        let mut lists = Lists::new();
        let texts = |number| list(&["orders:read", &format!("customer:{number}")]);
        let held: Vec<_> = (0..1000).map(|number| lists.share(texts(number))).collect();
        for (number, held) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(&lists.share(texts(number)).0, &held.0));
        }
        assert_eq!(lists.by_text.len(), 1000);
    }
}
