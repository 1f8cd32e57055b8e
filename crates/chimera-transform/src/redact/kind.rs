//! What is looked for, and what is done with what is found.

/// A kind of personal datum or secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// An email address.
    Email,
    /// A phone number, E.164 or national.
    Phone,
    /// A payment card, by Luhn's checksum and its issuer's range.
    Card,
    /// An IBAN, by its country's length and its checksum.
    Iban,
    /// An IP address, 4 or 6.
    Ip,
    /// A national id number, by its country's checksum where there is one.
    NationalId,
    /// A date of birth: a date where the text says that it is one.
    BirthDate,
    /// An API key, by its vendor's prefix.
    ApiKey,
    /// A JSON web token.
    Jwt,
    /// A block in PEM.
    Pem,
    /// User name and password in a URL.
    Credentials,
    /// A string of high entropy.
    Secret,
    /// One of the settings' own patterns or dictionaries, by its number.
    Custom(u16),
}

impl Kind {
    /// Every built-in kind.
    pub const ALL: [Self; 12] = [
        Self::Email,
        Self::Phone,
        Self::Card,
        Self::Iban,
        Self::Ip,
        Self::NationalId,
        Self::BirthDate,
        Self::ApiKey,
        Self::Jwt,
        Self::Pem,
        Self::Credentials,
        Self::Secret,
    ];

    /// Its name in settings and reports; custom ones have their own.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Ip => "ip",
            Self::NationalId => "national_id",
            Self::BirthDate => "birth_date",
            Self::ApiKey => "api_key",
            Self::Jwt => "jwt",
            Self::Pem => "pem",
            Self::Credentials => "credentials",
            Self::Secret => "secret",
            Self::Custom(_) => "custom",
        }
    }
}

/// What is done with a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Replaced by a placeholder; the answer gets it back.
    #[default]
    Redact,
    /// Its letters and digits replaced by `*`, the last four of long ones left.
    Mask,
    /// Replaced by a keyed hash: the same value has the same hash, and there is no way back.
    Hash,
    /// The request is refused.
    Block,
    /// Left alone.
    Allow,
}

/// Something found in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Where it stands, in bytes.
    pub range: std::ops::Range<usize>,
}

/// Findings in their order, none of which overlap.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding that ends behind all others. What it covers gives way to it; what it only touches
    /// keeps its place, and the new one begins behind.
    pub(crate) fn push(&mut self, kind: Kind, range: std::ops::Range<usize>) {
        let mut range = range;
        while let Some(last) = self.0.last() {
            if last.range.end <= range.start {
                break;
            }
            // The same place again: the first said more of it.
            if last.range == range {
                return;
            }
            if last.range.start < range.start {
                range.start = last.range.end;
                break;
            }
            self.0.pop();
        }
        if range.start < range.end {
            self.0.push(Finding { kind, range });
        }
    }

    /// Adds findings of another kind of search, wherever they are.
    pub(crate) fn merge(&mut self, mut others: Vec<Finding>) {
        if others.is_empty() {
            return;
        }
        others.append(&mut self.0);
        others.sort_by_key(|finding| (finding.range.end, finding.range.start));
        others.into_iter().for_each(|finding| self.push(finding.kind, finding.range));
    }

    pub(crate) fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}
