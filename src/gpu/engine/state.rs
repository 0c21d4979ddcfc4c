//! A conversation out of the device's buffers, and back into them.

use super::{CHUNK, Engine};
use crate::error::Result;
use crate::model::state::{Mark, Shape, Words};

impl Engine {
    /// How it keeps a conversation.
    pub fn shape(&self) -> Shape {
        let (plan, chunk) = (&self.maker.plan, CHUNK.min(self.context));
        Shape::new(plan, self.context, chunk, self.maker.cache_type, true)
    }

    /// How far the conversation has come whose first `tokens` tokens are wanted.
    pub fn mark(&self, tokens: usize) -> Mark {
        Mark {
            tokens,
            written: self.written,
            kept: self.maker.carried.kept(tokens),
        }
    }

    /// Appends what it keeps of the first `tokens` tokens, which [`Engine::resume`] gave, as [`Shape`] has it.
    pub async fn save(&mut self, tokens: usize, out: &mut Vec<u8>) -> Result<()> {
        self.settle().await?;
        let (shape, mark) = (self.shape(), self.mark(tokens));
        for (cache, (k, v)) in self.maker.caches.iter().enumerate() {
            let bytes = 4 * shape.held(cache, mark) as u64;
            out.extend(self.gpu.read(k, bytes).await?);
            out.extend(self.gpu.read(v, bytes).await?);
        }
        self.maker.carried.save(&self.gpu, tokens, out).await
    }

    /// Takes a conversation up that an engine of this [`Shape`] has saved.
    pub async fn restore(&mut self, mark: Mark, mut words: Words<'_>) -> Result<()> {
        self.settle().await?;
        let shape = self.shape();
        for (cache, (k, v)) in self.maker.caches.iter().enumerate() {
            let held = shape.held(cache, mark);
            self.gpu.write(k, 0, words.take(held));
            self.gpu.write(v, 0, words.take(held));
        }
        self.maker
            .carried
            .restore(&self.gpu, mark.tokens, mark.kept, &mut words);
        (self.submitted, self.written) = (mark.tokens, mark.written);
        Ok(())
    }
}
