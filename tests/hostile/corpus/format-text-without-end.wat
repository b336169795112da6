;; trick: brackets without end
;; end: refused no WebAssembly text
(module (func (export "on_hit")
;;*3000 (block
