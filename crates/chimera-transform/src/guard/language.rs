//! Which language a text is in, as far as that can be told from it alone.
//!
//! By script first: a text in letters that no allowed language is written in is in none of them. Within a
//! script by its trigrams (whatlang, 69 languages), where they tell reliably; a text that is too short or
//! too mixed to tell passes.

use whatlang::{Lang, detect, detect_script};

/// Two-letter codes of ISO 639-1 for the three-letter ones of the detector.
const CODES: [(&str, &str); 69] = [
    ("af", "afr"),
    ("ak", "aka"),
    ("am", "amh"),
    ("ar", "ara"),
    ("az", "aze"),
    ("be", "bel"),
    ("bn", "ben"),
    ("bg", "bul"),
    ("ca", "cat"),
    ("cs", "ces"),
    ("zh", "cmn"),
    ("cy", "cym"),
    ("da", "dan"),
    ("de", "deu"),
    ("el", "ell"),
    ("en", "eng"),
    ("eo", "epo"),
    ("et", "est"),
    ("fi", "fin"),
    ("fr", "fra"),
    ("gu", "guj"),
    ("he", "heb"),
    ("hi", "hin"),
    ("hr", "hrv"),
    ("hu", "hun"),
    ("hy", "hye"),
    ("id", "ind"),
    ("it", "ita"),
    ("jv", "jav"),
    ("ja", "jpn"),
    ("kn", "kan"),
    ("ka", "kat"),
    ("km", "khm"),
    ("ko", "kor"),
    ("la", "lat"),
    ("lv", "lav"),
    ("lt", "lit"),
    ("ml", "mal"),
    ("mr", "mar"),
    ("mk", "mkd"),
    ("my", "mya"),
    ("ne", "nep"),
    ("nb", "nob"),
    ("nl", "nld"),
    ("or", "ori"),
    ("pa", "pan"),
    ("fa", "pes"),
    ("pl", "pol"),
    ("pt", "por"),
    ("ro", "ron"),
    ("ru", "rus"),
    ("si", "sin"),
    ("sk", "slk"),
    ("sl", "slv"),
    ("sn", "sna"),
    ("es", "spa"),
    ("sr", "srp"),
    ("sv", "swe"),
    ("ta", "tam"),
    ("te", "tel"),
    ("tl", "tgl"),
    ("th", "tha"),
    ("tk", "tuk"),
    ("tr", "tur"),
    ("uk", "ukr"),
    ("ur", "urd"),
    ("uz", "uzb"),
    ("vi", "vie"),
    ("zu", "zul"),
];

/// Letters below which nothing is said of a text's script, and of its language.
const FEW: usize = 4;
const SHORT: usize = 24;
/// From this confidence on, the detector is believed: a sentence of a dozen words has it.
const CONFIDENT: f64 = 0.5;

/// The languages that are allowed.
#[derive(Debug)]
pub(super) struct Languages(Vec<Lang>);

impl Languages {
    /// By their codes, of two letters or three. The code that is none comes back.
    pub(super) fn new(codes: &[String]) -> Result<Self, String> {
        let languages = codes.iter().map(|code| {
            let lower = code.to_ascii_lowercase();
            let three =
                CODES.iter().find(|(two, _)| *two == lower).map_or(lower.as_str(), |(_, three)| three);
            Lang::from_code(three).ok_or_else(|| code.clone())
        });
        languages.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a text may be in one of them.
    pub(super) fn allow(&self, text: &str) -> bool {
        let letters = text.chars().filter(|c| c.is_alphabetic()).take(SHORT).count();
        let Some(script) = detect_script(text).filter(|_| letters >= FEW) else { return true };
        if !script.langs().iter().any(|language| self.0.contains(language)) {
            return false;
        }
        let told = if letters < SHORT { None } else { detect(text) };
        told.is_none_or(|told| told.confidence() < CONFIDENT || self.0.contains(&told.lang()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(codes: &[&str], text: &str) -> bool {
        let codes: Vec<_> = codes.iter().map(|code| (*code).to_owned()).collect();
        Languages::new(&codes).unwrap().allow(text)
    }

    const ENGLISH: &str = "Would you please tell me when the contract with our partner in Lyon ends?";
    const GERMAN: &str = "Können Sie mir bitte sagen, wann der Vertrag mit unserem Partner in Lyon endet?";
    const FRENCH: &str = "Pourriez-vous me dire quand se termine le contrat avec notre partenaire à Lyon ?";
    const RUSSIAN: &str = "Скажите, пожалуйста, когда заканчивается договор с нашим партнёром?";
    const JAPANESE: &str = "リヨンのパートナーとの契約はいつ終了しますか。教えてください。";
    const CHINESE: &str = "请告诉我，我们与里昂合作伙伴的合同什么时候到期？";

    #[test]
    fn languages_are_told_by_script_and_by_trigrams() {
        let all = [
            ("en", ENGLISH),
            ("de", GERMAN),
            ("fr", FRENCH),
            ("ru", RUSSIAN),
            ("ja", JAPANESE),
            ("zh", CHINESE),
        ];
        for (code, text) in all {
            for (other, _) in all {
                assert_eq!(allow(&[other], text), other == code, "{text} as {other}");
            }
            assert!(allow(&["en", "de", "fr", "ru", "ja", "zh"], text));
        }
        assert!(allow(&["eng"], ENGLISH) && !allow(&["deu"], ENGLISH));
    }

    #[test]
    fn what_cannot_be_told_passes() {
        for text in ["", "12345", "ok", "π = 3", "Lyon", "x = f(y) + 1;"] {
            assert!(allow(&["en"], text), "{text}");
        }
        assert!(!allow(&["en"], "Привет"), "the script tells");
    }

    #[test]
    fn every_code_is_known_and_others_are_not() {
        for (two, three) in CODES {
            assert!(Languages::new(&[two.to_owned(), three.to_owned()]).is_ok(), "{two}");
        }
        assert_eq!(Languages::new(&["en".into(), "xx".into()]).unwrap_err(), "xx");
    }
}
