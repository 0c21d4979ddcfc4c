//! In headless Chromium: the kernels on its WebGPU, both engines on the bundled student, errors as JavaScript sees them.
#![cfg(target_family = "wasm")]

use understudy::error::Error;
use understudy::format::BlockType;
use understudy::format::source::Bytes;
use understudy::gpu::{Gpu, GpuOptions, cases};
use understudy::model::Sampling;
use understudy::student::{Prompt, Request, Student};
use understudy::text::template::Message;
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

const BUNDLED: &[u8] = include_bytes!("../school/models/understudy-pip.gguf");

async fn meet() -> Gpu {
    // The flags of webdriver.json give Chromium a software adapter: without one these tests fail, they do not pass.
    Gpu::meet(&GpuOptions {
        f16: true,
        ..GpuOptions::default()
    })
    .await
    .expect("an adapter")
}

async fn answer(gpu: Option<&Gpu>) -> String {
    let mut student = Student::open(&Bytes(BUNDLED.to_vec()), gpu, Some(256), |_, _| Ok(()))
        .await
        .expect("the bundled student opens");
    let message = Message {
        role: "user".into(),
        content: "Hello! Who are you?".into(),
        reasoning_content: None,
    };
    let request = Request {
        prompt: Prompt::Messages(vec![message]),
        sampling: Sampling::GREEDY,
        max_tokens: Some(24),
        ..Request::chat(Vec::new())
    };
    student.generate(&request, |_| false).await.expect("it answers").content
}

#[wasm_bindgen_test]
async fn kernels_answer_as_known_in_the_browser() {
    let gpu = meet().await;
    console_log!("{}", gpu.words());
    let types = [
        BlockType::F32,
        BlockType::F16,
        BlockType::BF16,
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q8_0,
        BlockType::Q4_K,
        BlockType::Q5_K,
        BlockType::Q6_K,
    ];
    assert_eq!(cases::self_test(&gpu, &types).await, Ok(()));
}

#[wasm_bindgen_test]
async fn kernels_answer_as_known_on_default_limits() {
    let gpu = Gpu::meet(&GpuOptions {
        default_limits: true,
        ..GpuOptions::default()
    })
    .await
    .expect("an adapter");
    assert_eq!(
        cases::self_test(&gpu, &[BlockType::Q8_0, BlockType::Q4_K]).await,
        Ok(())
    );
}

#[wasm_bindgen_test]
async fn both_engines_write_the_same_text() {
    let gpu = meet().await;
    let on_gpu = answer(Some(&gpu)).await;
    assert!(!on_gpu.is_empty());
    assert_eq!(on_gpu, answer(None).await);
}

#[wasm_bindgen_test]
fn errors_carry_code_and_hint() {
    let value: JsValue = Error::PromptTooLong { tokens: 9, context: 8 }.into();
    let get = |key: &str| {
        js_sys::Reflect::get(&value, &key.into())
            .ok()
            .and_then(|v| v.as_string())
    };
    assert_eq!(get("code").as_deref(), Some("prompt-too-long"));
    assert!(get("hint").is_some_and(|hint| hint.ends_with('.')));
    assert!(get("message").is_some_and(|message| message.contains('9')));
}
