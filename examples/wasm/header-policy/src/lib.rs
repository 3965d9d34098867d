//! Header policy: what requests must have, what they must not bring along, and what of
//! responses stays inside.
//!
//! The configuration has one rule a line:
//!
//!     require NAME          a request without it is answered with 400
//!     deny NAME VALUE       a request with it is answered with 403
//!     remove-request NAME   it is taken off requests
//!     remove-response NAME  it is taken off responses
//!     set-response NAME VALUE

use proxy_wasm::traits::*;
use proxy_wasm::types::*;
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Plugin { rules: Rc::new(vec![]) }) });
}}

enum Rule {
    Require(String),
    Deny(String, String),
    RemoveRequest(String),
    RemoveResponse(String),
    SetResponse(String, String),
}

fn parse(line: &str) -> Option<Rule> {
    let mut words = line.splitn(3, ' ');
    let (verb, name, value) = (words.next()?, words.next()?.to_ascii_lowercase(), words.next());
    match (verb, value) {
        ("require", None) => Some(Rule::Require(name)),
        ("deny", Some(value)) => Some(Rule::Deny(name, value.to_string())),
        ("remove-request", None) => Some(Rule::RemoveRequest(name)),
        ("remove-response", None) => Some(Rule::RemoveResponse(name)),
        ("set-response", Some(value)) => Some(Rule::SetResponse(name, value.to_string())),
        _ => None,
    }
}

struct Plugin {
    rules: Rc<Vec<Rule>>,
}

impl Context for Plugin {}

impl RootContext for Plugin {
    // A policy with a line that is not understood is refused as a whole: a filter that obeys
    // half of a policy is worse than none.
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = String::from_utf8(self.get_plugin_configuration().unwrap_or_default()).unwrap_or_default();
        let mut rules = vec![];
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            match parse(line) {
                Some(rule) => rules.push(rule),
                None => {
                    let _ = proxy_wasm::hostcalls::log(LogLevel::Critical, &format!("no rule: {line}"));
                    return false;
                }
            }
        }
        self.rules = Rc::new(rules);
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { rules: self.rules.clone() }))
    }
}

struct Stream {
    rules: Rc<Vec<Rule>>,
}

impl Context for Stream {}

impl Stream {
    /// Whether a header has the value: in any of its lines, and anywhere in a list. Nobody gets
    /// around a rule by sending a header twice.
    fn has(&self, name: &str, value: &str) -> bool {
        self.get_http_request_headers_bytes()
            .iter()
            .filter(|(n, _)| n == name)
            .any(|(_, v)| v.split(|&b| b == b',').any(|part| part.trim_ascii() == value.as_bytes()))
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        for rule in self.rules.iter() {
            match rule {
                Rule::Require(name) if self.get_http_request_header_bytes(name).is_none() => {
                    self.send_http_response(400, vec![], Some(format!("{name} is missing\n").as_bytes()));
                    return Action::Pause;
                }
                Rule::Deny(name, value) if self.has(name, value) => {
                    self.send_http_response(403, vec![], Some(b"denied by policy\n"));
                    return Action::Pause;
                }
                Rule::RemoveRequest(name) => self.remove_http_request_header(name),
                _ => {}
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        for rule in self.rules.iter() {
            match rule {
                Rule::RemoveResponse(name) => self.remove_http_response_header(name),
                Rule::SetResponse(name, value) => self.set_http_response_header(name, Some(value)),
                _ => {}
            }
        }
        Action::Continue
    }
}
