//! Turns sampled tokens into text that may be shown: whole UTF-8 characters only, nothing that could
//! still become a stop string, and for every emission how many tokens lie wholly inside what was
//! emitted, which is what metering counts.
//!
//! What never lives here: tokens' ids, sampling, when a request ends for other reasons.

/// Text that may be shown now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// The text; bytes that are no UTF-8 became U+FFFD.
    pub text: String,
    /// Sampled tokens up to the last one whose bytes are wholly contained in all text so far.
    pub tokens_total: u32,
}

/// What became of one more token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Text to show, if any.
    pub emission: Option<Emission>,
    /// Which stop string is complete; no more tokens may be pushed then.
    pub stopped: Option<usize>,
}

/// The text of one generation.
#[derive(Debug, Default)]
pub struct TextStream {
    /// All bytes sampled so far.
    bytes: Vec<u8>,
    /// For each token the length of `bytes` after it.
    ends: Vec<usize>,
    /// Bytes emitted so far.
    emitted: usize,
    /// Tokens wholly emitted so far.
    counted: usize,
    stops: Vec<Vec<u8>>,
}

impl TextStream {
    /// A stream that ends before the first of `stops`, none of which may be empty.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().map(|s| s.as_bytes().to_vec()).collect();
        Self { stops, ..Self::default() }
    }

    /// Takes the bytes of one more sampled token.
    pub fn push(&mut self, piece: &[u8]) -> Pushed {
        self.bytes.extend_from_slice(piece);
        self.ends.push(self.bytes.len());
        if let Some((at, stop)) = self.find_stop() {
            return Pushed { emission: self.emit_to(at), stopped: Some(stop) };
        }
        let upto = self.bytes.len() - self.held_back_for_stop();
        let upto = self.emitted + whole_characters(&self.bytes[self.emitted..upto]);
        Pushed { emission: self.emit_to(upto), stopped: None }
    }

    /// Ends the stream: what was held back is emitted. Not to be called after a stop string or a
    /// cancel, whose held-back text is dropped.
    pub fn flush(&mut self) -> Option<Emission> {
        let emission = self.emit_to(self.bytes.len());
        // Tokens without bytes at the very end are wholly contained too.
        self.counted = self.ends.len();
        emission.map(|mut e| {
            e.tokens_total = self.counted as u32;
            e
        })
    }

    /// Tokens wholly contained in what was emitted.
    pub fn tokens_emitted(&self) -> u32 {
        self.counted as u32
    }

    /// Tokens pushed.
    pub fn tokens_pushed(&self) -> u32 {
        self.ends.len() as u32
    }

    fn emit_to(&mut self, upto: usize) -> Option<Emission> {
        if upto <= self.emitted {
            return None;
        }
        let text = String::from_utf8_lossy(&self.bytes[self.emitted..upto]).into_owned();
        self.emitted = upto;
        while self.ends.get(self.counted).is_some_and(|&end| end <= upto) {
            self.counted += 1;
        }
        Some(Emission { text, tokens_total: self.counted as u32 })
    }

    /// Where the first complete stop string starts, and which it is. What was emitted cannot be part of one, because
    /// the beginning of a stop string is held back.
    fn find_stop(&self) -> Option<(usize, usize)> {
        let fresh = &self.bytes[self.emitted..];
        self.stops
            .iter()
            .enumerate()
            .filter_map(|(n, stop)| Some((fresh.windows(stop.len()).position(|w| w == stop.as_slice())?, n)))
            .min()
            .map(|(at, stop)| (self.emitted + at, stop))
    }

    /// Length of the longest end of the bytes that begins a stop string.
    fn held_back_for_stop(&self) -> usize {
        let fresh = &self.bytes[self.emitted..];
        self.stops
            .iter()
            .flat_map(|stop| {
                let longest = fresh.len().min(stop.len() - 1);
                (1..=longest).rev().find(|&n| fresh.ends_with(&stop[..n]))
            })
            .max()
            .unwrap_or(0)
    }
}

/// Length of the part of `bytes` that does not end in the beginning of a character.
fn whole_characters(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match std::str::from_utf8(&bytes[at..]) {
            Ok(_) => return bytes.len(),
            Err(e) => match e.error_len() {
                // Bytes that can never become a character: emitted as U+FFFD.
                Some(bad) => at += e.valid_up_to() + bad,
                None => return at + e.valid_up_to(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(pieces: &[&[u8]], stops: &[&str]) -> (String, u32, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut stream = TextStream::new(&stops);
        let mut text = String::new();
        for piece in pieces {
            let pushed = stream.push(piece);
            if let Some(e) = pushed.emission {
                text.push_str(&e.text);
            }
            if pushed.stopped.is_some() {
                return (text, stream.tokens_emitted(), pushed.stopped);
            }
        }
        if let Some(e) = stream.flush() {
            text.push_str(&e.text);
        }
        (text, stream.tokens_emitted(), None)
    }

    #[test]
    fn a_stop_string_over_three_tokens_is_never_shown() {
        let (text, tokens, stopped) = run(&[b"Hello wor", b"ld\n", b"\nUs", b"er: hi"], &["\n\nUser:"]);
        assert_eq!((text.as_str(), stopped), ("Hello world", Some(0)));
        // "ld\n" is not wholly shown, so only the first token counts.
        assert_eq!(tokens, 1);
    }

    #[test]
    fn the_beginning_of_a_stop_string_is_shown_once_it_goes_on_otherwise() {
        let mut stream = TextStream::new(&["STOP".to_owned()]);
        assert_eq!(stream.push(b"a ST").emission.unwrap().text, "a ");
        let emission = stream.push(b"EP").emission.unwrap();
        assert_eq!((emission.text.as_str(), emission.tokens_total), ("STEP", 2));
    }

    #[test]
    fn the_earliest_of_several_stop_strings_wins() {
        let (text, _, stopped) = run(&[b"one two three"], &["three", "two"]);
        assert_eq!((text.as_str(), stopped), ("one ", Some(1)));
    }

    #[test]
    fn a_character_over_three_tokens_waits_and_counts_when_whole() {
        let mut stream = TextStream::new(&[]);
        assert!(stream.push(&[0xE4]).emission.is_none());
        assert!(stream.push(&[0xBD]).emission.is_none());
        let emission = stream.push(&[0xA0]).emission.unwrap();
        assert_eq!((emission.text.as_str(), emission.tokens_total), ("你", 3));
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        let (text, tokens, _) = run(&[&[0xFF], b"a", &[0xE4, 0xBD]], &[]);
        assert_eq!((text.as_str(), tokens), ("\u{FFFD}a\u{FFFD}", 3));
    }

    #[test]
    fn tokens_without_bytes_count_when_the_text_around_them_is_out() {
        let mut stream = TextStream::new(&[]);
        assert!(stream.push(b"").emission.is_none());
        assert_eq!(stream.push(b"x").emission.unwrap().tokens_total, 2);
        assert!(stream.push(b"").emission.is_none());
        assert!(stream.flush().is_none());
        assert_eq!(stream.tokens_emitted(), 3);
    }

    proptest! {
        /// However text is cut into tokens: what is shown is the text before the first stop string,
        /// and every count equals the count over the shown bytes.
        #[test]
        fn emissions_add_up(
            text in "[ab\u{e4}\u{4f60}]{0,24}",
            cuts in proptest::collection::vec(0usize..60, 0..12),
            stop in proptest::option::of("[ab]{1,3}"),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.push(0);
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let stops: Vec<String> = stop.iter().cloned().collect();
            let mut stream = TextStream::new(&stops);
            let (mut shown, mut ends, mut stopped) = (String::new(), Vec::new(), false);
            for pair in cuts.windows(2) {
                ends.push(pair[1]);
                let pushed = stream.push(&bytes[pair[0]..pair[1]]);
                if let Some(e) = pushed.emission {
                    shown.push_str(&e.text);
                    let whole = ends.iter().filter(|&&end| end <= shown.len()).count();
                    prop_assert_eq!(e.tokens_total as usize, whole);
                }
                if pushed.stopped.is_some() { stopped = true; break; }
            }
            if !stopped {
                if let Some(e) = stream.flush() { shown.push_str(&e.text); }
                prop_assert_eq!(stream.tokens_emitted() as usize, ends.len());
            }
            let expected = stop.and_then(|s| text.find(&s)).map_or(text.as_str(), |at| &text[..at]);
            prop_assert_eq!(shown.as_str(), expected);
        }
    }
}
