//! What lines say of the next configuration, and the calibrator.

use oscar::{Calibration, Calibrator, CalibratorOptions, Config, LayerConfig, Storage, Tensor};

use super::line::{bad, Failure, Inputs, Played, Words};

/// Of one layer.
#[derive(Default, Clone, Copy)]
pub struct Geometry {
    pub n_q_heads: usize,
    pub n_kv_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
}

#[derive(Default)]
pub struct Next {
    pub self_calibrates: bool,
    layers: Vec<LayerConfig>,
    calibration: Option<Calibration>,
    calibrator: Option<(Calibrator, Vec<Geometry>)>,
}

impl Next {
    pub fn layer(&mut self, words: &mut Words<'_>) -> Played {
        if words.number::<usize>()? != self.layers.len() {
            return bad("wanted the configuration of another layer here");
        }
        let mut layer = LayerConfig::new();
        while !words.is_empty() {
            layer = match words.word()? {
                "n_q_heads" => layer.n_q_heads(words.number()?),
                "n_kv_heads" => layer.n_kv_heads(words.number()?),
                "key_dim" => layer.key_dim(words.number()?),
                "value_dim" => layer.value_dim(words.number()?),
                "window" => layer.window(words.number()?),
                "storage" => layer.storage(Storage(words.number()?)),
                "n_refined" => layer.n_refined(words.number()?),
                "refined_key_bits" => layer.refined_key_bits(words.number()?),
                "refined_value_bits" => layer.refined_value_bits(words.number()?),
                "kv_source" => layer.kv_source(words.number()?),
                field => return bad(format!("there is no field {field}")),
            };
        }
        self.layers.push(layer);
        Ok(())
    }

    /// The rest of the line, and what came before it: a configuration, and the geometry of its layers.
    pub fn config(&mut self, words: &mut Words<'_>) -> Result<(Config, Vec<Geometry>), Failure> {
        let said = Next { calibrator: self.calibrator.take(), ..Next::default() };
        let said = std::mem::replace(self, said);
        let mut config = Config::new(words.word()?)?;
        while !words.is_empty() {
            config = match words.word()? {
                "n_layers" => config.n_layers(words.number()?),
                "n_q_heads" => config.n_q_heads(words.number()?),
                "n_kv_heads" => config.n_kv_heads(words.number()?),
                "key_dim" => config.key_dim(words.number()?),
                "value_dim" => config.value_dim(words.number()?),
                "window" => config.window(words.number()?),
                "n_sink" => config.n_sink(words.number()?),
                "n_recent" => config.n_recent(words.number()?),
                "max_rollback" => config.max_rollback(words.number()?),
                "max_sequences" => config.max_sequences(words.number()?),
                "max_open_steps" => config.max_open_steps(words.number()?),
                "max_step_tokens" => config.max_step_tokens(words.number()?),
                "max_tokens" => config.max_tokens(words.number()?),
                "capacity_bytes" => config.capacity_bytes(words.number()?),
                field => return bad(format!("there is no field {field}")),
            };
        }
        if let Some(calibration) = &said.calibration {
            config = config.calibration(calibration);
        }
        if said.self_calibrates {
            let frequencies = frequencies(&config);
            config = config.self_calibrate(&frequencies, 1, CalibratorOptions::new())?;
        }
        let own = |i: u32| said.layers.get(i as usize).cloned().unwrap_or_default();
        let layers = (0..config.n_layers).map(|i| geometry(&config, &own(i))).collect();
        Ok((if said.layers.is_empty() { config } else { config.layers(said.layers) }, layers))
    }

    pub fn calibrator(&mut self, words: &mut Words<'_>) -> Played {
        let (config, layers) = self.config(words)?;
        let frequencies = frequencies(&config);
        let tensor = Tensor::new(&frequencies, [frequencies.len()])?;
        let calibrator = Calibrator::new(&config, &CalibratorOptions::new().rope_frequencies(tensor))?;
        self.calibrator = Some((calibrator, layers));
        Ok(())
    }

    /// Of one layer: keys, values and queries come from one run of the generator, in this order.
    pub fn feed(&mut self, words: &mut Words<'_>) -> Played {
        let (calibrator, layers) =
            self.calibrator.as_mut().ok_or_else(|| Failure::Bad("there is no calibrator".into()))?;
        let (layer, first): (u32, u64) = (words.number()?, words.number()?);
        let (n, mut inputs): (usize, _) = (words.number()?, Inputs(words.number()?));
        let g = layers.get(layer as usize).copied().unwrap_or_default();
        let k = inputs.take(n * g.n_kv_heads * g.key_dim);
        let v = inputs.take(n * g.n_kv_heads * g.value_dim);
        let q = inputs.take(n * g.n_q_heads * g.key_dim);
        Ok(calibrator.feed(
            layer,
            first,
            Tensor::new(&q, [n, g.n_q_heads, g.key_dim])?,
            Some(Tensor::new(&k, [n, g.n_kv_heads, g.key_dim])?),
            Some(Tensor::new(&v, [n, g.n_kv_heads, g.value_dim])?),
        )?)
    }

    pub fn finish(&mut self) -> Played {
        let (calibrator, _) = self.calibrator.as_ref().ok_or_else(|| Failure::Bad("there is no calibrator".into()))?;
        self.calibration = Some(calibrator.finish()?);
        Ok(())
    }
}

/// Pair i turns by 2^-i, which is exact in every language.
fn frequencies(config: &Config) -> Vec<f32> {
    (0..config.key_dim as i32 / 2).map(|i| 0.5_f32.powi(i)).collect()
}

fn geometry(config: &Config, layer: &LayerConfig) -> Geometry {
    let of = |own: u32, all: u32| if own == oscar::DEFAULT { all } else { own };
    let key_dim = of(layer.key_dim, config.key_dim);
    let value_dim = match of(layer.value_dim, config.value_dim) {
        0 | oscar::DEFAULT => key_dim,
        value_dim => value_dim,
    };
    Geometry {
        n_q_heads: of(layer.n_q_heads, config.n_q_heads) as usize,
        n_kv_heads: of(layer.n_kv_heads, config.n_kv_heads) as usize,
        key_dim: key_dim as usize,
        value_dim: value_dim as usize,
    }
}
