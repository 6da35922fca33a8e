//! Secrets: whoever prints a configuration prints `***`, and what is wrong with a
//! secret is said without the secret.

/// A secret: it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl AdminToken {
    /// White space around it belongs to the file it came from.
    pub(super) fn check(text: &str) -> Result<Self, String> {
        let token = text.trim();
        if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!(
                "the token has {} bytes; allowed are 16 or more printable ASCII characters \
                 without spaces",
                token.len()
            ));
        }
        Ok(Self::new(token))
    }
}

/// What a server of ours asks for: it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The end of the line belongs to the file it came from, spaces may be its own.
    pub(super) fn check(text: &str) -> Result<Self, String> {
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() || password.contains(char::is_control) {
            return Err(
                "the password is empty, or holds a line break or another control character"
                    .to_owned(),
            );
        }
        Ok(Self::new(password))
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
