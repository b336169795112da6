;; trick: JSON that ends early
;; end: refused manifest
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"na"))
