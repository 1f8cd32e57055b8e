//! Ten thousand texts of twenty languages and of code, from a fixed seed, and how many tokens each has.
//!
//! `tokens` prints how fast they are counted; `tokens --write FILE` writes a line of JSON for each, with its
//! counts in both encodings and the time that all of them took, for `benches/tokens.py` to compare.
#![allow(clippy::print_stdout, clippy::indexing_slicing, missing_docs)]

use std::{fs, io::Write, time::Instant};

use chimera_transform::tokens;

const TEXTS: usize = 10_000;
/// A model of each encoding.
const MODELS: [(&str, &str); 2] = [("o200k_base", "gpt-4o"), ("cl100k_base", "gpt-4")];

/// Sentences of each language, and snippets of code.
const SOURCES: [(&str, [&str; 3]); 24] = [
    (
        "English",
        [
            "The committee didn't decide anything, so we'll meet again on Thursday at 9:30.",
            "Nobody had expected that the river would rise so quickly.",
            "It's cheaper by 12.5% than the other one, isn't it?",
        ],
    ),
    (
        "German",
        [
            "Die Straße über den Fluß wurde wegen Überschwemmung gesperrt.",
            "Können Sie mir bitte die Rechnung über 1.250,00 € schicken?",
            "Der Donaudampfschifffahrtskapitän trank seinen Kaffee schwarz.",
        ],
    ),
    (
        "French",
        [
            "L'été dernier, nous avons visité la forêt près de Besançon.",
            "Où se trouve l'hôtel dont vous m'aviez parlé ?",
            "Ça coûte 3,50 € de plus qu'hier, malheureusement.",
        ],
    ),
    (
        "Spanish",
        [
            "¿Cuándo llegará el próximo tren a Córdoba?",
            "El niño comió una manzana y después salió corriendo.",
            "¡Qué sorpresa tan agradable encontrarte aquí mañana!",
        ],
    ),
    (
        "Portuguese",
        [
            "Não há razão para não aprender uma língua nova.",
            "A reunião começará às 14h30 na sala do terceiro andar.",
            "Os pães estão no balcão, ao lado das maçãs.",
        ],
    ),
    (
        "Italian",
        [
            "Perché non mi hai detto che saresti arrivato così tardi?",
            "La città è bellissima d'inverno, quando c'è la neve.",
            "Il prezzo è di 1.200,50 euro, più le spese di spedizione.",
        ],
    ),
    (
        "Dutch",
        [
            "Het schip ligt al drie weken in de haven van IJmuiden.",
            "Zij heeft haar zus gisteren niet meer kunnen bereiken.",
            "Waarom zou je zo'n dure fiets kopen?",
        ],
    ),
    (
        "Polish",
        [
            "Źdźbło trawy kołysało się na wietrze przed świtem.",
            "Czy mógłbyś mi powiedzieć, która jest godzina?",
            "Wczoraj spadł pierwszy śnieg, a dziś już stopniał.",
        ],
    ),
    (
        "Czech",
        [
            "Příliš mnoho lidí čekalo před nádražím na zpožděný vlak.",
            "Kde najdu nejbližší lékárnu, která má otevřeno?",
            "Děti si hrály na zahradě až do večera.",
        ],
    ),
    (
        "Swedish",
        [
            "Hur länge har ni bott i den här lägenheten på ön?",
            "Det snöade hela natten, och vägarna är hala.",
            "Jag skulle vilja beställa en kopp kaffe och två bullar.",
        ],
    ),
    (
        "Turkish",
        [
            "Yarın sabah erkenden İstanbul'a gitmemiz gerekiyor.",
            "Çocuklar bahçede oynarken yağmur yağmaya başladı.",
            "Bu kitabı okudun mu, yoksa henüz bitirmedin mi?",
        ],
    ),
    (
        "Russian",
        [
            "Вчера вечером мы долго разговаривали о новой работе.",
            "Сколько стоит билет до Санкт-Петербурга на 15 мая?",
            "Он не знал, что поезд уже ушёл.",
        ],
    ),
    (
        "Ukrainian",
        [
            "Їжак повільно йшов стежкою між ґанком і садом.",
            "Скільки коштує квиток до Києва на завтра?",
            "Ми зустрілися біля під'їзду о сьомій годині.",
        ],
    ),
    (
        "Greek",
        [
            "Το πλοίο έφυγε από το λιμάνι πριν από δύο ώρες.",
            "Πόσο κοστίζει ένα εισιτήριο για τη Θεσσαλονίκη;",
            "Χθες το βράδυ είδαμε μια πολύ ωραία ταινία.",
        ],
    ),
    (
        "Arabic",
        [
            "وصل القطار إلى المحطة متأخرا بعشرين دقيقة.",
            "هل يمكنك أن تخبرني أين تقع المكتبة؟",
            "اشترى أخي كتابا جديدا بسعر ٢٥ دينارا.",
        ],
    ),
    (
        "Hebrew",
        [
            "הרכבת הגיעה לתחנה באיחור של עשרים דקות.",
            "האם תוכל לומר לי היכן נמצאת הספרייה?",
            "אתמול בערב ירד גשם חזק בירושלים.",
        ],
    ),
    (
        "Hindi",
        ["कल शाम को हम सब बाज़ार गए थे।", "क्या आप मुझे बता सकते हैं कि पुस्तकालय कहाँ है?", "यह किताब २५० रुपये की है।"],
    ),
    (
        "Japanese",
        [
            "昨日の夜、友達と新しいレストランで食事をしました。",
            "すみません、図書館はどこにありますか？",
            "このカメラは３２，０００円で、とても軽いです。",
        ],
    ),
    (
        "Chinese",
        ["昨天晚上我们在新开的餐馆吃了饭。", "请问，去图书馆怎么走？", "这台相机卖三千二百元，又轻又好用。"],
    ),
    (
        "Korean",
        [
            "어제 저녁에 친구들과 새로 생긴 식당에 갔습니다.",
            "실례지만 도서관이 어디에 있습니까?",
            "이 책은 25,000원이고 아주 재미있어요.",
        ],
    ),
    (
        "Rust",
        [
            "fn main() {\n    let total: u64 = (1..=10).map(|n| n * n).sum();\n    println!(\"{total:>8}\");\n}\n",
            "#[derive(Debug, Clone)]\npub struct Point<T> { x: T, y: T }\n",
            "match result? {\n\tOk(value) if value > 0 => Some(value),\n\t_ => None,\n}\n",
        ],
    ),
    (
        "Python",
        [
            "def area(width: float, height: float = 1.0) -> float:\n    \"\"\"Return the area.\"\"\"\n    return width * height\n",
            "for i, row in enumerate(rows):\n    if row[\"id\"] != i:\n        raise ValueError(f\"row {i!r}\")\n",
            "    result = {k: v**2 for k, v in data.items() if not k.startswith('_')}\n",
        ],
    ),
    (
        "JavaScript",
        [
            "const total = items.reduce((sum, { price }) => sum + price, 0);\r\n",
            "export default async function load(url) {\n  const res = await fetch(`${url}?v=${Date.now()}`);\n  return res.json();\n}\n",
            "<div class=\"row\" onclick='go()'>&nbsp;</div>\n",
        ],
    ),
    (
        "data",
        [
            "{\"id\": 1024, \"name\": \"caf\\u00e9\", \"tags\": [\"a\", \"b\"], \"price\": 3.14e-2}\n",
            "SELECT name, COUNT(*) FROM orders WHERE total >= 100 GROUP BY name ORDER BY 2 DESC;\n",
            "2026-11-25T17:30:00Z\tERROR\tpool[17]: 0x7ffd3c2a timed out after 30000ms\n",
        ],
    ),
];

/// What stands between and within sentences now and then.
const ODD: [&str; 12] = [
    "  ",
    "\n\n",
    "\t",
    " — ",
    "…",
    " 👩‍👩‍👧‍👦 ",
    "🇩🇪",
    "e\u{301}",
    " 1234567890 ",
    " https://example.com/a?b=c#d ",
    "!!!",
    "\u{a0}",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn text(&mut self, language: usize) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(12) {
            // Now and then another language within one text.
            let from = if self.below(20) == 0 { self.below(SOURCES.len()) } else { language };
            text.push_str(SOURCES[from].1[self.below(3)]);
            text.push_str(if self.below(4) == 0 { ODD[self.below(ODD.len())] } else { " " });
        }
        match self.below(8) {
            0 => text.to_uppercase(),
            // Cut anywhere.
            1 => text.chars().skip(self.below(9)).take(5 + self.below(200)).collect(),
            // Without its spaces.
            2 => text.replace(' ', ""),
            _ => text,
        }
    }
}

/// The texts.
fn texts() -> Vec<(&'static str, String)> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..TEXTS).map(|index| (SOURCES[index % SOURCES.len()].0, random.text(index % SOURCES.len()))).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let texts = texts();
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    tokens::warm();
    let mut counts = Vec::new();
    for (encoding, model) in MODELS {
        let began = Instant::now();
        let counted: Vec<u64> = texts.iter().map(|(_, text)| tokens::count_text(text, model)).collect();
        let seconds = began.elapsed().as_secs_f64();
        let total: u64 = counted.iter().sum();
        println!(
            "{encoding}: {} texts, {bytes} bytes, {total} tokens, {:.1} MB/s",
            texts.len(),
            bytes as f64 / seconds / 1e6
        );
        counts.push((encoding, counted, seconds));
    }
    let mut arguments = std::env::args().skip(1);
    if let (Some("--write"), Some(path)) = (arguments.next().as_deref(), arguments.next()) {
        let mut out = std::io::BufWriter::new(fs::File::create(path)?);
        let seconds: serde_json::Map<_, _> =
            counts.iter().map(|(encoding, _, seconds)| ((*encoding).to_owned(), (*seconds).into())).collect();
        writeln!(out, "{}", serde_json::json!({ "seconds": seconds }))?;
        for (index, (language, text)) in texts.iter().enumerate() {
            let of: serde_json::Map<_, _> = counts
                .iter()
                .map(|(encoding, counted, _)| ((*encoding).to_owned(), counted[index].into()))
                .collect();
            writeln!(out, "{}", serde_json::json!({ "language": language, "text": text, "tokens": of }))?;
        }
    }
    Ok(())
}
