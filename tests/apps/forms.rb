# Reads forms as Rack does, with which Rails and Sinatra read them: a line of JSON each, in and out. Texts are in hexadecimal.
require "json"
require "stringio"
require "rack"

def shown(value)
  case value
  when Hash then value.to_h { |name, inner| [name.unpack1("H*"), shown(inner)] }
  when Array then value.map { |inner| shown(inner) }
  when nil then nil
  else value.to_s.unpack1("H*")
  end
end

STDIN.each_line do |line|
  asked = JSON.parse(line)
  body = asked["body"].unpack1("m")
  environ = {
    "REQUEST_METHOD" => "POST", "CONTENT_TYPE" => asked["kind"], "CONTENT_LENGTH" => body.bytesize.to_s,
    "rack.input" => StringIO.new(body),
  }
  begin
    post = Rack::Request.new(environ).POST
    files = post.select { |_, value| value.is_a?(Hash) && value.key?(:tempfile) }.keys
    fields = post.reject { |name, _| files.include?(name) }
    puts JSON.generate({ fields: shown(fields), files: files.map { |name| name.unpack1("H*") } })
  rescue StandardError
    puts "null"
  end
end
