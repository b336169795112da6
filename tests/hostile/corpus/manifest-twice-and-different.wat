;; trick: two sections that disagree
;; end: refused name
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\22abi\22:1,\22name\22:\22p\22}") (@custom "trocar.manifest" "{\22name\22:\22q\22}"))
