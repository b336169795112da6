;; trick: the fuel ends inside emit: 40 units and one for each eight bytes are more than there is
;; end: quarantined out of fuel
;; args: --fuel 200
(module
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (call $emit (i32.const 0) (i32.const 0) (i32.const 4096))))
