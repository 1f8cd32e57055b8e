//! The API keys of vendors: each has a prefix that nothing else has, an alphabet and a length.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

/// What may follow a prefix.
#[derive(Debug, Clone, Copy)]
enum Body {
    /// Letters and digits.
    Alnum,
    /// Letters, digits, `-` and `_`.
    Word,
    /// The same, and `.`, `/`, `+`.
    Any,
    /// Hexadecimal digits.
    Hex,
    /// Upper-case letters and digits.
    Upper,
}

use Body::{Alnum, Any, Hex, Upper, Word};

impl Body {
    fn holds(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || b"-_".contains(&byte),
            Self::Any => byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        }
    }
}

/// One form of key.
struct Form {
    vendor: &'static str,
    prefix: &'static str,
    body: Body,
    /// The least that follows the prefix.
    least: usize,
}

const fn form(vendor: &'static str, prefix: &'static str, body: Body, least: usize) -> Form {
    Form { vendor, prefix, body, least }
}

const FORMS: [Form; 86] = [
    form("openai", "sk-", Word, 20),
    form("anthropic", "sk-ant-", Word, 20),
    form("openrouter", "sk-or-", Word, 20),
    form("google", "AIza", Word, 35),
    form("google-oauth", "GOCSPX-", Word, 24),
    form("google-oauth", "ya29.", Word, 20),
    form("aws", "AKIA", Upper, 16),
    form("aws", "ASIA", Upper, 16),
    form("aws", "ABIA", Upper, 16),
    form("github", "ghp_", Alnum, 30),
    form("github", "gho_", Alnum, 30),
    form("github", "ghu_", Alnum, 30),
    form("github", "ghs_", Alnum, 30),
    form("github", "ghr_", Alnum, 30),
    form("github", "github_pat_", Word, 40),
    form("gitlab", "glpat-", Word, 20),
    form("gitlab", "gldt-", Word, 20),
    form("gitlab", "glrt-", Word, 20),
    form("slack", "xoxb-", Word, 20),
    form("slack", "xoxp-", Word, 20),
    form("slack", "xoxa-", Word, 20),
    form("slack", "xoxr-", Word, 20),
    form("slack", "xoxs-", Word, 20),
    form("slack", "xapp-", Word, 20),
    form("slack", "hooks.slack.com/services/", Any, 20),
    form("stripe", "sk_live_", Alnum, 16),
    form("stripe", "sk_test_", Alnum, 16),
    form("stripe", "rk_live_", Alnum, 16),
    form("stripe", "rk_test_", Alnum, 16),
    form("stripe", "whsec_", Alnum, 24),
    form("sendgrid", "SG.", Any, 40),
    form("mailgun", "key-", Hex, 32),
    form("brevo", "xkeysib-", Word, 40),
    form("twilio", "AC", Hex, 32),
    form("twilio", "SK", Hex, 32),
    form("npm", "npm_", Alnum, 30),
    form("pypi", "pypi-", Word, 50),
    form("rubygems", "rubygems_", Hex, 40),
    form("docker", "dckr_pat_", Word, 20),
    form("digitalocean", "dop_v1_", Hex, 40),
    form("digitalocean", "doo_v1_", Hex, 40),
    form("huggingface", "hf_", Alnum, 30),
    form("replicate", "r8_", Alnum, 30),
    form("groq", "gsk_", Alnum, 40),
    form("perplexity", "pplx-", Alnum, 40),
    form("xai", "xai-", Alnum, 40),
    form("fireworks", "fw_", Alnum, 20),
    form("databricks", "dapi", Hex, 32),
    form("shopify", "shpat_", Hex, 32),
    form("shopify", "shpss_", Hex, 32),
    form("shopify", "shpca_", Hex, 32),
    form("square", "sq0atp-", Word, 20),
    form("square", "sq0csp-", Word, 40),
    form("linear", "lin_api_", Alnum, 30),
    form("notion", "ntn_", Alnum, 40),
    form("notion", "secret_", Alnum, 40),
    form("airtable", "pat", Any, 76),
    form("atlassian", "ATATT3", Word, 60),
    form("figma", "figd_", Word, 30),
    form("postman", "PMAK-", Word, 50),
    form("newrelic", "NRAK-", Upper, 27),
    form("grafana", "glsa_", Word, 40),
    form("grafana", "glc_", Alnum, 32),
    form("vault", "hvs.", Word, 24),
    form("vault", "hvb.", Word, 24),
    form("doppler", "dp.pt.", Alnum, 40),
    form("sentry", "sntrys_", Any, 40),
    form("sentry", "sntryu_", Hex, 40),
    form("heroku", "HRKU-", Word, 36),
    form("netlify", "nfp_", Alnum, 36),
    form("supabase", "sbp_", Hex, 40),
    form("planetscale", "pscale_tkn_", Word, 32),
    form("planetscale", "pscale_pw_", Word, 32),
    form("alibaba", "LTAI", Alnum, 16),
    form("tencent", "AKID", Alnum, 32),
    form("yandex", "AQVN", Word, 35),
    form("pulumi", "pul-", Hex, 40),
    form("clojars", "CLOJARS_", Alnum, 60),
    form("typeform", "tfp_", Any, 40),
    form("razorpay", "rzp_live_", Alnum, 14),
    form("adafruit", "aio_", Alnum, 28),
    form("contentful", "CFPAT-", Word, 40),
    form("prefect", "pnu_", Alnum, 36),
    form("readme", "rdme_", Alnum, 60),
    form("shippo", "shippo_live_", Hex, 40),
    form("easypost", "EZAK", Alnum, 50),
];

static PREFIXES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let prefixes = FORMS.iter().map(|form| form.prefix);
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(prefixes).ok()
});

/// The shortest token that can hold a key.
pub(super) const SHORTEST: usize = 16;

/// The vendors whose keys are known.
pub(super) fn vendors() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.vendor)
}

/// Finds a key in a token: where it stands.
pub(super) fn find(token: &[u8]) -> Option<std::ops::Range<usize>> {
    let prefixes = PREFIXES.as_ref()?;
    prefixes.find_iter(token).find_map(|found| {
        let starts = found.start().checked_sub(1).and_then(|before| token.get(before));
        if starts.is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        let form = FORMS.get(found.pattern().as_usize())?;
        let body = token.get(found.end()..)?;
        let length = body.iter().take_while(|byte| form.body.holds(**byte)).count();
        let body = body.get(..length)?;
        (length >= form.least && is_random(form.body, body)).then(|| found.start()..found.end() + length)
    })
}

/// A key has digits in it, or both cases: names in code that begin like one have neither.
fn is_random(kind: Body, body: &[u8]) -> bool {
    let digits = body.iter().any(u8::is_ascii_digit);
    let cases = body.iter().any(u8::is_ascii_lowercase) && body.iter().any(u8::is_ascii_uppercase);
    digits || (cases && !matches!(kind, Upper | Hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_more_than_thirty_vendors_are_found() {
        let mut known: Vec<_> = vendors().collect();
        known.sort_unstable();
        known.dedup();
        assert!(known.len() >= 50, "{}", known.len());
        for form in &FORMS {
            let alphabet: &[u8] = match form.body {
                Hex => b"0a1b2c3d4e5f6789",
                Upper => b"A0B1C2D3E4F5G6H7",
                _ => b"aB3dE5gH7jK9mN1pQ",
            };
            let body: Vec<u8> = alphabet.iter().cycle().take(form.least).copied().collect();
            let key = [form.prefix.as_bytes(), &body].concat();
            assert_eq!(find(&key), Some(0..key.len()), "{}", String::from_utf8_lossy(&key));
            let short = &key[..key.len() - 1];
            let prefix_only = find(short);
            assert!(prefix_only.is_none_or(|range| range.end <= short.len()), "{}", form.prefix);
        }
    }

    #[test]
    fn names_that_begin_like_a_key_are_none() {
        for name in [
            "sk-learn-estimators-for-everyone",
            "task-force-meeting-minutes",
            "hf_hub_download_everything_now",
            "secret_manager_configuration_for_everyone_here",
        ] {
            assert_eq!(find(name.as_bytes()), None, "{name}");
        }
    }
}
