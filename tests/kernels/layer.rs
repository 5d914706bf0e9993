//! Khronos' validation layer is on where it is asked for, and says nothing of the cases (`loom::layer`).

use loom::{Gpu, layer};

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("validation_layer", cases);

pub fn cases(suite: &mut Suite) {
    let lack = layer::lack(suite.gpu.kernels.caps().backend);
    suite.case_unless(lack, "misuse is heard", |gpu: &Gpu| {
        let (name, heard) = layer::during(|| layer::misuse(&gpu.device));
        let name = name.ok_or("nothing can be misused here")?;
        match heard.iter().any(|said| said.contains(name)) {
            true => Ok(()),
            false => Err(format!("the layer does not tell {name}, but {heard:?}: is it found (VK_LAYER_PATH)?")),
        }
    });
}
