;; trick: --fuel over the most that may be asked for
;; end: usage 10000000
;; args: --fuel 10000001
(module
  (func (export "on_hit") (nop)))
