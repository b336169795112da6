;; trick: five loops in one another, each of 2^32 turns
;; end: quarantined out of fuel
(module
  (func (export "on_hit") (local i32) (loop $a (loop $b (loop $c (loop $d (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br_if $d (local.get 0))) (br_if $c (i32.const 1))) (br_if $b (i32.const 1))) (br $a))))
