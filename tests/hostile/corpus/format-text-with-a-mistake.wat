;; trick: text that does not parse
;; end: refused no WebAssembly text
(module (func (export "on_hit") (i32.ad)))
