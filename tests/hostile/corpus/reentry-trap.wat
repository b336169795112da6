;; trick: traps while signals hit inside of hits
;; end: quarantined unreachable
;; target: unsteady
(module
  (func (export "on_hit") unreachable))
