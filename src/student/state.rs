//! Saving a conversation, and going on with it later without running it again.

use super::{Engine, Student};
use crate::error::{Error, Result};
use crate::model::state::{Owner, Words, adapter_print};

impl Student {
    fn owner(&self) -> Owner {
        let adapters = self.adapters.iter();
        Owner {
            student: self.print,
            shape: match &self.engine {
                Engine::Cpu(engine) => engine.shape(),
                Engine::Gpu(engine) => engine.shape(),
            },
            adapters: adapters
                .map(|(adapter, scale)| (adapter_print(adapter), *scale))
                .collect(),
        }
    }

    /// What the engine knows of the conversation so far, as bytes for [`Student::restore_state`]: its tokens with their keys and
    /// values, and what recurrent layers carry. They take what the cache takes for these tokens.
    ///
    /// Errors: [`Error::State`] where nothing was run yet, and what the device does.
    pub async fn save_state(&mut self) -> Result<Vec<u8>> {
        let tokens = match &self.engine {
            Engine::Cpu(engine) => engine.resume(self.cached.len()),
            Engine::Gpu(engine) => engine.resume(self.cached.len()),
        };
        if tokens == 0 {
            return Err(Error::State {
                what: "there is no conversation yet".into(),
            });
        }
        let owner = self.owner();
        let ids = &self.cached[..tokens];
        match &mut self.engine {
            Engine::Cpu(engine) => {
                let mut bytes = owner.begin(ids, engine.mark(tokens));
                engine.save(tokens, &mut bytes);
                Ok(bytes)
            }
            Engine::Gpu(engine) => {
                let mut bytes = owner.begin(ids, engine.mark(tokens));
                engine.save(tokens, &mut bytes).await?;
                Ok(bytes)
            }
        }
    }

    /// Makes the conversation that was saved the one that this student knows; gives its number of tokens. A prompt that begins with
    /// them goes on from there.
    ///
    /// Errors: [`Error::State`] where it does not belong to this student as it is opened, with these adapters at these scales; what
    /// was known stays then.
    pub async fn restore_state(&mut self, bytes: &[u8]) -> Result<usize> {
        let (ids, mark, body) = self.owner().read(self.plan().config.vocabulary, bytes)?;
        self.cached.clear();
        match &mut self.engine {
            Engine::Cpu(engine) => engine.restore(mark, Words(body)),
            Engine::Gpu(engine) => engine.restore(mark, Words(body)).await?,
        }
        self.cached = ids;
        Ok(mark.tokens)
    }
}
