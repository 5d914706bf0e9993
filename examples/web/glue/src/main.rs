//! `glue FILE.wasm DIR`: what browsers load, `DIR/web.js` and `DIR/web_bg.wasm`.

use wasm_bindgen_cli_support::Bindgen;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, dir] = &args[..] else {
        eprintln!("glue FILE.wasm DIR");
        std::process::exit(2);
    };
    let mut bindgen = Bindgen::new();
    let web = bindgen.input_path(file).web(true).expect("there is one target only");
    if let Err(error) = web.typescript(false).omit_default_module_path(false).generate(dir) {
        eprintln!("glue: {error:#}");
        std::process::exit(1);
    }
}
