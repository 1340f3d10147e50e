/** HudsonBoot MAINCLASS ARGUMENT...: makes a JDK of today look to very old code like the one it was written for. */
public class HudsonBoot {
  public static void main(String[] arguments) throws Exception {
    String[][] properties = {
      {"java.version", "1.8.0_345"},
      {"java.specification.version", "1.8"},
      {"java.vm.specification.version", "1.8"},
      {"java.class.version", "52.0"},
      {"java.vm.vendor", "Sun Microsystems Inc."},
      {"java.vendor", "Sun Microsystems Inc."},
    };
    for (String[] property : properties) {
      System.setProperty(property[0], property[1]);
    }
    String[] rest = java.util.Arrays.copyOfRange(arguments, 1, arguments.length);
    Class.forName(arguments[0]).getMethod("main", String[].class).invoke(null, (Object) rest);
  }
}
