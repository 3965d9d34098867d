//! Body redaction: card numbers in what a service answers do not leave it.
//!
//! A card number is 13 to 19 digits, in groups or not, whose checksum (Luhn) is right; all but
//! the last four digits become asterisks. JSON and text are looked at. The body is kept together
//! until it is complete: a number may be cut anywhere.

use proxy_wasm::traits::*;
use proxy_wasm::types::*;

proxy_wasm::main! {{
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Stream { looks: false, size: 0 }) });
}}

struct Stream {
    looks: bool, // the response has text
    size: usize, // of its body so far
}

impl Context for Stream {}

impl Stream {
    /// Redacts the body that is kept.
    fn clean(&self, size: usize) {
        if let Some(mut body) = self.get_http_response_body(0, size) {
            // As long as before: content-length stays right.
            if redact(&mut body) > 0 {
                self.set_http_response_body(0, size, &body);
            }
        }
    }
}

/// Whether the digits at the places have the checksum of card numbers.
fn luhn(body: &[u8], places: &[usize]) -> bool {
    let sum: u32 = places
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &at)| {
            let d = u32::from(body[at] - b'0') << (i % 2);
            if d > 9 { d - 9 } else { d }
        })
        .sum();
    sum % 10 == 0
}

/// Redacts card numbers in place, and returns how many there were.
fn redact(body: &mut [u8]) -> usize {
    let (mut found, mut at) = (0, 0);
    while at < body.len() {
        if !body[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        // A run of digits with single spaces or hyphens between them.
        let mut places = vec![];
        while at < body.len() {
            if body[at].is_ascii_digit() {
                places.push(at);
            } else if !matches!(body[at], b' ' | b'-') || !body.get(at + 1).is_some_and(u8::is_ascii_digit) {
                break;
            }
            at += 1;
        }
        if (13..=19).contains(&places.len()) && luhn(body, &places) {
            for &p in &places[..places.len() - 4] {
                body[p] = b'*';
            }
            found += 1;
        }
    }
    found
}

impl HttpContext for Stream {
    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let kind = self.get_http_response_header("content-type").unwrap_or_default();
        let encoded = self.get_http_response_header("content-encoding").is_some();
        self.looks = !end_of_stream && !encoded && (kind.starts_with("application/json") || kind.starts_with("text/"));
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.looks {
            return Action::Continue;
        }
        self.size = size;
        if !end_of_stream {
            return Action::Pause;
        }
        self.clean(size);
        Action::Continue
    }

    // A body that is followed by trailers ends here.
    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        if self.looks {
            self.clean(self.size);
        }
        Action::Continue
    }
}
