//! How byte-pair tokenizers cut a text before they merge: the pre-tokenizers by the names that `tokenizer.ggml.pre` has for
//! them. Which name means which cuts is llama.cpp's table.

/// The contractions of English, in any case.
macro_rules! contractions {
    () => {
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    };
}

/// Letters with case, as Unicode had them when DeepSeek's first tokenizers were made.
macro_rules! cased {
    () => {
        concat!(
            r"A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}",
            r"\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}",
            r"\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}",
            r"\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}",
            r"\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}",
            r"\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}",
            r"\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}",
            r"\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}",
            r"\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}",
            r"\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}",
            r"\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}",
            r"\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}",
            r"\x{118a0}-\x{118df}\x{1e900}-\x{1e943}",
        )
    };
}

/// Words that end where capitals begin again: capitals and then small letters, or capitals alone. `$han` takes Han characters
/// out; `$tail` is what may follow.
macro_rules! camel {
    ($han:literal, $tail:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}",
            $han,
            r"]*[\p{Ll}\p{Lm}\p{Lo}\p{M}",
            $han,
            "]+",
            $tail,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}",
            $han,
            r"]+[\p{Ll}\p{Lm}\p{Lo}\p{M}",
            $han,
            "]*",
            $tail
        )
    };
}

/// What most tokenizers do with line ends and other white space: line ends with what precedes them, and a space with the word
/// behind it.
macro_rules! spaces {
    () => {
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    };
}

/// Words with one character of another kind in front, numbers as `$number` says, other characters with `$behind` them.
macro_rules! words {
    ($number:literal, $behind:literal) => {
        concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $number,
            r"| ?[^\s\p{L}\p{N}]+",
            $behind,
            spaces!()
        )
    };
}

/// Words of DeepSeek 3 and its like, behind the cuts of numbers and of Han and kana.
macro_rules! ascii_words {
    () => {
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"##,
            r"[\r\n]*",
            spaces!()
        )
    };
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Numbers in threes.
const LLAMA3: &str = words!(r"\p{N}{1,3}", r"[\r\n]*");
/// Numbers digit by digit.
const QWEN2: &str = words!(r"\p{N}", r"[\r\n]*");
/// As Qwen 2, with combining marks among the letters.
const QWEN35: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    spaces!()
);
const TEKKEN: &str = concat!(camel!("", ""), r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*", spaces!());
const GPT4O: &str = concat!(
    camel!("", concat!(contractions!(), "?")),
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    spaces!()
);
const KIMI: &str = concat!(
    r"\p{Han}+|",
    camel!(r"&&[^\p{Han}]", concat!(contractions!(), "?")),
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    spaces!()
);
const DIGIT: &str = r"\p{N}";
const DIGITS: &str = r"\p{N}+";
const THREE_DIGITS: &str = r"\p{N}{1,3}";
const HAN_KANA: &str = r"[\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]+";
const HAN_HANGUL: &str = r"[\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+";
const LINE_END: &str = r"[\r\n]";
/// Anything up to a space or a mark that ends a part of a sentence.
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// How a byte-pair tokenizer treats a text.
pub(super) struct Rules {
    /// Patterns, each a pass over what the one before has cut.
    pub(super) cuts: &'static [&'static str],
    /// A piece that is a token is taken whole, whatever the merges say.
    pub(super) whole_pieces: bool,
    /// BOS comes in front of a text unless the file says otherwise.
    pub(super) adds_bos: bool,
    /// Tokens are text with U+2581 for spaces; otherwise each of their characters stands for a byte.
    pub(super) plain_text: bool,
}

/// The rules of a name; `None` for a name that is not known.
pub(super) fn rules(name: &str) -> Option<Rules> {
    let cuts: &'static [&'static str] = match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jina-en" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es"
        | "jina-v2-de" | "jina-v2-code" | "roberta-bpe" | "gigachat" | "a.x-4.0" | "mellum" | "modern-bert"
        | "exaone4" | "jais" | "trillion" | "granite-docling" => &[GPT2],
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" | "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => &[LLAMA3],
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "kormo" | "f2llmv2" | "stablelm2" | "hunyuan" | "grok-2"
        | "solar-open" => &[QWEN2],
        "qwen35" => &[QWEN35],
        "tekken" => &[TEKKEN],
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" | "granite-embed-multi-97m" => &[GPT4O],
        "kimi-k2" => &[KIMI],
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            &[DIGIT, GPT2]
        }
        "deepseek-llm" => &[
            LINE_END,
            concat!(r"\s?[", cased!(), "]+"),
            r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+",
            r"\s+$",
            HAN_HANGUL,
            DIGITS,
        ],
        "deepseek-coder" => &[LINE_END, r"\s?\p{L}+", r"\s?\p{P}+", HAN_HANGUL, DIGIT],
        // DeepSeek R1 itself has the tokenizer of version 3.
        "deepseek-v3" | "deepseek-r1" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => {
            &[THREE_DIGITS, HAN_KANA, ascii_words!()]
        }
        "youtu" => &[
            r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]+",
            concat!(
                camel!("", concat!(contractions!(), "?")),
                r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
                spaces!()
            ),
        ],
        // Numbers are cut in threes from their ends.
        "superbpe" => &[DIGITS, r"(?=(\d{3})+(?!\d))"],
        "afmoe" => &[
            DIGITS,
            r"(?=(\p{N}{3})+(?!\p{N}))",
            r"[一-鿿㐀-䶿豈-﫿぀-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+",
            ascii_words!(),
        ],
        "tiny_aya" | "cohere2moe" => &[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O],
        "bailingmoe" | "bailingmoe2" | "llada-moe" => {
            &[r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"]
        }
        "seed-coder" => &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+",
            spaces!()
        )],
        "exaone-moe" => &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]",
            r"|\s+(?!\S)|\s+"
        )],
        "minicpm5" => &[THREE_DIGITS, words!(r"\p{N}+", r"[\r\n]*")],
        "laguna" => &[r"[^\n]+|\n+", QWEN2],
        "bloom" | "poro-chat" | "gpt3-finnish" => &[BLOOM],
        "viking" => &[BLOOM, DIGIT],
        "chameleon" => &[
            "<sentinel:[0-9]+>",
            "IMGIMG[A-I]{1,4}Z",
            r"[\t\n]|    |  ",
            DIGIT,
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ],
        // Punctuation first, digits in threes last.
        "falcon" => &[r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"],
        "default" => &[r"[\p{P}$+<=>^~|]+", GPT2, DIGITS, "[0-9][0-9][0-9]"],
        // The tokenizer cuts at line ends itself.
        "gemma4" | "granite-embed-multi-311m" | "sarvam-moe" => &[],
        _ => return None,
    };
    let llama = matches!(
        name,
        "llama-bpe"
            | "llama3"
            | "llama-v3"
            | "falcon3"
            | "falcon-h1"
            | "pixtral"
            | "midm-2.0"
            | "lfm2"
            | "jina-v5-nano"
    );
    let plain_text = cuts.is_empty();
    Some(Rules {
        cuts,
        whole_pieces: llama || matches!(name, "tekken" | "youtu" | "minicpm5" | "granite-embed-multi-97m"),
        adds_bos: llama || plain_text && name != "sarvam-moe" || matches!(name, "tekken" | "chameleon"),
        plain_text,
    })
}
