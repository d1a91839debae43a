//! A windowed request: big things are asked for in pieces, only while they are shown, and the latest wish wins.

/// What was wanted, what was asked and what came.
#[derive(Debug, Clone)]
pub(crate) struct Window<K, T> {
    asked: Option<K>,
    held: Option<(K, T)>,
    /// Why the last answer was none, as text.
    pub(crate) problem: Option<String>,
}

impl<K, T> Default for Window<K, T> {
    fn default() -> Self {
        Window { asked: None, held: None, problem: None }
    }
}

impl<K: PartialEq + Clone, T> Window<K, T> {
    /// Whether `key` must be asked for now; remembers that it was.
    pub(crate) fn want(&mut self, key: K) -> bool {
        if self.asked.as_ref() == Some(&key) {
            return false;
        }
        self.asked = Some(key);
        self.problem = None;
        true
    }

    /// Whether an answer is still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.problem.is_none() && self.asked.is_some() && self.held.as_ref().map(|(k, _)| k) != self.asked.as_ref()
    }

    /// Takes the answer to what was asked last.
    pub(crate) fn take(&mut self, value: T) {
        if let Some(key) = self.asked.clone() {
            self.held = Some((key, value));
            self.problem = None;
        }
    }

    /// Takes a failure; the old content stays.
    pub(crate) fn fail(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    /// What came last, whatever it was asked for.
    pub(crate) fn get(&self) -> Option<&T> {
        self.held.as_ref().map(|(_, v)| v)
    }

    /// What came, when it is what `fits` says.
    pub(crate) fn get_if(&self, fits: impl Fn(&K) -> bool) -> Option<&T> {
        self.held.as_ref().filter(|(k, _)| fits(k)).map(|(_, v)| v)
    }

    /// What was asked for last.
    pub(crate) fn asked(&self) -> Option<&K> {
        self.asked.as_ref()
    }

    /// Asks again at the next chance; the content stays until then.
    pub(crate) fn forget(&mut self) {
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_asked_for_once_and_again_after_the_link_was_lost() {
        let mut window: Window<u32, &str> = Window::default();
        assert!(window.want(1));
        assert!(!window.want(1));
        assert!(window.is_waiting());
        window.take("one");
        assert!(!window.is_waiting());
        window.forget();
        assert!(window.want(1));
        assert_eq!(window.get(), Some(&"one"));
        assert!(window.want(2));
        assert_eq!(window.get_if(|k| *k == 2), None);
    }
}
